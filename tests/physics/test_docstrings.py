"""The examples in the docstrings are true, and what the package says it offers is there."""

import doctest
import importlib
import pkgutil

import pytest

from jetcorr_utils import physics

MODULES = sorted(module.name for module in pkgutil.iter_modules(physics.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_and_public_names(name):
    module = importlib.import_module(f"jetcorr_utils.physics.{name}")
    assert doctest.testmod(module).failed == 0
    assert module.__doc__
    for public in module.__all__:
        assert getattr(module, public).__doc__, public


def test_no_module_is_hidden_by_a_function_of_its_name():
    assert not set(MODULES) & set(physics.__all__)
    assert all(hasattr(physics, name) for name in physics.__all__)
