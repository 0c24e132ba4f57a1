"""`python -m jetcorr_utils.simulation`: derive the standard corrections of the simulated detector again."""

from .calibration import derive_corrections

if __name__ == "__main__":
    print(derive_corrections())
