"""What a file's text may do to a terminal, a page, a spreadsheet: nothing."""

import warnings

import numpy as np
import pandas as pd
import pytest

from spikeinterface_nuclr.errors import CheckpointError, InputError, RecordingWarning, reading, reason_of
from spikeinterface_nuclr.files import ARRAYS_OF_NUMBERS, check_declared
from spikeinterface_nuclr.text import for_csv, for_figure, for_markdown, printable

HOSTILE = "unit\n7\x1b[2J\r\u202e|<script>\u2028\x00\ud800"


def test_printable_text_is_one_line_that_a_terminal_only_shows():
    shown = printable(HOSTILE)
    assert shown.splitlines() == [shown]
    assert not set(shown) & set("\n\r\x1b\x00\u202e\u2028\ud800")
    assert shown.encode("utf-8")
    assert printable("Área 1 – µm, 脳") == "Área 1 – µm, 脳"
    assert printable(shown) == shown  # messages are quoted in messages


def test_markdown_shows_text_without_its_markup():
    shown = for_markdown("a|b<script>alert(1)</script>![x](y)`c`")
    assert "<script>" not in shown
    assert "\\|" in shown
    assert "\\[x\\]" in shown
    assert for_markdown("$x$ & #1") == r"&#36;x&#36; &amp; \#1"


@pytest.mark.parametrize("name", ["$", r"$\nonsense{$", r"\$x$", "a$b$c", "a\nb", HOSTILE])
def test_figures_show_text_without_formulas_of_its_own(name, tmp_path):
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots()
    axis.set_title(for_figure(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that no font has
        figure.savefig(tmp_path / "a.svg")
    plt.close(figure)
    assert "\n" not in for_figure(name)


def test_csv_cells_are_no_formulas_and_numbers_stay(tmp_path):
    frame = pd.DataFrame(
        {"label": ["=cmd|' /C calc'!A0", "@SUM(1)", "-x", "PV", "-1.5"], "p": [-1.0, 2.0, 3.0, 4.0, 5.0]},
        index=pd.Index(["=1+1", "-1+cmd|' /C calc'!A0", "u", "-3", " =1"], name="unit_id"),
    )
    for_csv(frame).to_csv(tmp_path / "t.csv")
    read = pd.read_csv(tmp_path / "t.csv", dtype=str)
    assert read["label"].tolist() == ["'=cmd|' /C calc'!A0", "'@SUM(1)", "'-x", "PV", "-1.5"]
    assert read["unit_id"].tolist() == ["'=1+1", "'-1+cmd|' /C calc'!A0", "u", "-3", "' =1"]
    assert frame["label"].iloc[0] == "=cmd|' /C calc'!A0"
    pd.testing.assert_series_equal(for_csv(frame)["p"].reset_index(drop=True), frame["p"].reset_index(drop=True))


@pytest.mark.parametrize("kind", [InputError, CheckpointError, RecordingWarning])
def test_messages_are_one_line_whatever_names_stand_in_them(kind):
    assert str(kind(f"unit {HOSTILE}: wrong")).splitlines() == [str(kind(f"unit {HOSTILE}: wrong"))]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (KeyError("shape"), "KeyError: 'shape'"),
        (ValueError("bad\nmore"), "bad"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device", "x"), "No space left on device"),
        (Exception("a dump\nof the file", "the reason"), "the reason"),
        (MemoryError(), "out of memory"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
    ],
)
def test_a_library_s_error_becomes_one_line_that_names_the_file(problem, said):
    assert reason_of(problem) == said
    with pytest.raises(InputError, match=r"s\.nwb: not a readable NWB file") as caught, reading("s.nwb", "NWB file"):
        raise problem
    assert str(caught.value) == f"s.nwb: not a readable NWB file ({said})"
    assert caught.value.__cause__ is problem


def test_refusals_of_this_package_pass_through_and_interrupts_too():
    with pytest.raises(CheckpointError, match=r"^m: no$"), reading("s.nwb", "NWB file"):
        raise CheckpointError("m: no")
    with pytest.raises(KeyboardInterrupt), reading("s.nwb", "NWB file"):
        raise KeyboardInterrupt


def test_claims_beyond_a_file_s_bytes_are_refused():
    check_declared("a.npz", 60_000_000, 10)
    check_declared("a.npz", 900_000_000, 1_000_000)
    with pytest.raises(InputError, match=r"a\.npz: claims 0\.9 GB"):
        check_declared("a.npz", 900_000_000, 1_000_000, ratio=ARRAYS_OF_NUMBERS)
    with pytest.raises(InputError, match=r"a.npz: claims 8,000.0 GB and has 0.0 MB on disk"):
        check_declared("a.npz", 8_000_000_000_000, 10)


def test_what_is_no_character_is_shown_and_refused():
    from spikeinterface_nuclr import Population

    damaged = np.array(["ab", "cd"])
    damaged.view(np.uint32)[1] = 0xFFFFFFFF
    assert printable(damaged[0]).startswith("a")
    assert printable(damaged[0]).encode("utf-8")
    for order in ("=", ">", "<"):
        with pytest.raises(InputError, match="unit_ids holds text with characters that do not exist"):
            Population(damaged.astype(damaged.dtype.newbyteorder(order)), [[0.5], [0.7]])
    with pytest.raises(InputError, match="area holds text"):
        Population(["a", "b"], [[0.5], [0.7]], properties={"area": damaged})
    assert Population(["é", "\U0010ffff"], [[0.5], [0.7]]).n_units == 2
