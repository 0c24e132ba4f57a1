"""The interactive display of single jets: another flavour or place shows another jet."""

import awkward as ak

from jetcorr_utils.physics.browse import browse_jets


def test_another_place_and_flavour_show_another_jet(toy_jets):
    box = browse_jets(toy_jets[:60])
    controls, image = box.children
    flavour, place = controls.children
    first = bytes(image.value)
    assert first.startswith(b"\x89PNG")
    place.value = 7
    second = bytes(image.value)
    assert second != first
    flavour.value = "gluon"
    assert place.max == int(ak.sum(toy_jets[:60]["partonFlav"] == 21)) - 1
    assert bytes(image.value) not in (first, second)
