"""The examples in the docstrings: each runs as it stands, imports included, and every public name has one."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import warnings

import pytest

import spikeinterface_nuclr

NAMES = [module.name for module in pkgutil.walk_packages(spikeinterface_nuclr.__path__, "spikeinterface_nuclr.")]
# The view is a class of spikeinterface-gui, which is optional.
LEFT_OUT = ("__main__", *(() if importlib.util.find_spec("spikeinterface_gui") else ("gui.view",)))
MODULES = [importlib.import_module(name) for name in ["spikeinterface_nuclr", *NAMES] if not name.endswith(LEFT_OUT)]
FINDER = doctest.DocTestFinder(exclude_empty=True)
DOCTESTS = [test for module in MODULES for test in FINDER.find(module, module.__name__) if test.examples]


@pytest.mark.parametrize("test", DOCTESTS, ids=lambda test: test.name.removeprefix("spikeinterface_nuclr."))
def test_docstring_examples_run(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test.globs = {}
    output = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", spikeinterface_nuclr.RecordingWarning)
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(test, out=output.append)
    assert not output, "".join(output)


@pytest.mark.parametrize("name", spikeinterface_nuclr.__all__)
def test_every_public_name_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(spikeinterface_nuclr, name))
