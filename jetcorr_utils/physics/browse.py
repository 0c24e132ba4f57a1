"""Turning the pages of a data set in JupyterLab: one jet's particle cloud at a time, by flavour and momentum."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from .explore import flavour_groups
from .explore_particles import has_candidates, plot_particle_cloud

if TYPE_CHECKING:
    import ipywidgets

__all__ = ["browse_jets"]


def browse_jets(jets: ak.Array, width: int = 760) -> ipywidgets.Widget:
    """A widget that shows the particle cloud of any jet; end a cell with it.

    The slider runs over the jets of the chosen flavour in order of their momentum. In a notebook that is executed in
    batch the first jet stays to be seen. Jets without particles have nothing to show.
    """
    import ipywidgets  # half a second for who only wants another part of this package

    if not has_candidates(jets):
        return ipywidgets.HTML("no particle-flow candidates in these files")
    groups = {"all flavours": np.ones(len(jets), dtype=bool)} | flavour_groups(jets)
    pt = ak.to_numpy(jets["jetPt"])
    order = {name: _by_pt(pt, mask) for name, mask in groups.items() if mask.any()}
    flavour = ipywidgets.Dropdown(options=list(order), description="Flavour")
    place = ipywidgets.IntSlider(
        value=0, min=0, max=max(len(jets) - 1, 0), description="Jet", continuous_update=False,
        layout=ipywidgets.Layout(width="60%"),
    )  # fmt: skip
    image = ipywidgets.Image(format="png", width=width)

    def draw(_: object = None) -> None:
        rows = order[flavour.value]
        png = io.BytesIO()
        plot_particle_cloud(jets, int(rows[min(place.value, len(rows) - 1)])).savefig(png, format="png", dpi=90)
        image.value = png.getvalue()

    def choose(_: object) -> None:
        place.max = len(order[flavour.value]) - 1
        draw()

    flavour.observe(choose, "value")
    place.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([flavour, place]), image])


def _by_pt(pt: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = np.flatnonzero(mask)
    return rows[np.argsort(pt[rows], kind="stable")]
