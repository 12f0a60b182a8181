"""An outsider's function runs apart: it gets measured data, its troubles come back as a line."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nanophantom.simcore.fields import Axis, Field, Measured
from nanophantom.validation.blind import run_blind

IMAGES = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


@pytest.fixture
def measured():
    axes = (Axis("frame", 1, ""), Axis("y", 0.02, "nm"), Axis("x", 0.02, "nm"))
    settings = {"pixel_size_nm": np.float64(0.02), "contrast": "bright"}
    return Measured({"image": Field(IMAGES, axes, "electrons")}, settings)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Write ./mine.py and go there."""
    monkeypatch.chdir(tmp_path)

    def write(code):
        (tmp_path / "mine.py").write_text(textwrap.dedent(code))
        return tmp_path

    return write


def test_answer_comes_back_from_another_process(measured, mine):
    """Data and settings arrive unaltered, the arrays returned come back to the last bit."""
    mine(
        """
        import os
        import numpy as np
        def find(images, settings):
            assert settings == {"pixel_size_nm": 0.02, "contrast": "bright"}
            assert images.dtype == np.uint16
            return {"x_nm": images.sum(axis=(1, 2)) / 3, "y_nm": [1, 2], "pid": [os.getpid()]}
        """
    )
    answer = run_blind("mine:find", measured)
    np.testing.assert_array_equal(answer["x_nm"], IMAGES.sum(axis=(1, 2)) / 3)
    np.testing.assert_array_equal(answer["y_nm"], [1, 2])
    assert answer["pid"][0] != os.getpid()


def test_function_sees_no_dataset_recipe_or_seed(measured, mine, monkeypatch):
    """Its folder holds the measured data alone; no argument or variable names the dataset."""
    monkeypatch.setenv("OLDPWD", "/data/SECRET-dataset")
    monkeypatch.setenv("NANOPHANTOM_OUT", "/data/SECRET-dataset")
    monkeypatch.setattr(sys, "argv", ["nanophantom", "score", "/data/SECRET-dataset"])
    folder = mine(
        """
        import json, os, sys, pathlib
        def find(images, settings):
            seen = {"argv": sys.argv, "orig_argv": sys.orig_argv, "environ": dict(os.environ),
                    "cwd": os.getcwd(), "files": sorted(os.listdir(".")), "stdin": sys.stdin.read()}
            pathlib.Path(__file__).with_name("seen.json").write_text(json.dumps(seen))
            return {}
        """
    )
    run_blind("mine:find", measured)
    text = (folder / "seen.json").read_text()
    seen = json.loads(text)
    assert seen["files"] == ["settings.json", "signals"]
    assert seen["stdin"] == ""
    assert seen["cwd"] != str(folder)
    assert "SECRET" not in text
    assert str(folder) not in " ".join([*seen["orig_argv"], *seen["environ"].values()])


def test_only_the_signals_of_the_task_are_handed_over(measured, mine):
    """A second signal that the task doesn't name stays behind."""
    mine("import os\ndef find(a, settings):\n    import numpy as np\n"
         "    return {'n': [len(os.listdir('signals'))]}")  # fmt: skip
    two = Measured({**measured.signals, "other": measured.signals["image"]}, measured.settings)
    assert run_blind("mine:find", two, inputs=("image",))["n"][0] == 1


def test_what_it_prints_goes_to_standard_error(measured, mine, capfd):
    """The caller's standard output stays clean, for --json."""
    mine("import os\ndef find(a, s):\n    print('hello')\n    os.write(1, b'raw')\n    return {}")
    run_blind("mine:find", measured)
    out, err = capfd.readouterr()
    assert out == ""
    assert "hello" in err
    assert "raw" in err


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def find(a, s):\n    return s['lost']",
         r"mine:find failed: KeyError: 'lost' \(mine.py, line 2\)"),
        ("def find(a, s):\n    raise ValueError('two\\nlines')",
         r"mine:find failed: ValueError: two lines \(mine.py, line 2\)"),
        ("import not_installed_anywhere\ndef find(a, s): ...",
         r"No module named 'not_installed_anywhere' \(mine.py, line 1\)"),
        ("def find(a, s) return", r"mine:find failed: .*SyntaxError"),
        ("def find(a, s):\n    raise SystemExit(3)", r"mine:find failed: SystemExit: 3"),
        ("def find(a, s):\n    import os; os._exit(3)",
         r"mine:find ended without a result \(exit status 3\)"),
        ("def find(a, s):\n    import os; os.abort()",
         r"mine:find ended without a result \(killed by SIGABRT: .*\)"),
        ("def find(): ...", r"mine:find failed: TypeError: find\(\) takes 0 positional arguments"),
        ("def find(a, s):\n    return [1, 2]", r"must return a mapping .*, got list"),
        ("def find(a, s):\n    return {'x_nm': ['a']}", r"must return .*; 'x_nm' holds <U1"),
        ("def find(a, s):\n    return {'x_nm': [[1], [1, 2]]}", r"'x_nm' is a ragged list"),
        ("def find(a, s):\n    return {'x_nm': [None]}", r"'x_nm' holds object"),
        ("def fund(a, s): ...", r"mine:find: module 'mine' has no function 'find'"),
    ],
)  # fmt: skip
def test_trouble_comes_back_as_one_line(measured, mine, code, line):
    """Name of the function, reason, place."""
    mine(code)
    with pytest.raises(ValueError, match=line) as trouble:
        run_blind("mine:find", measured)
    assert "\n" not in str(trouble.value)


def test_missing_module_and_bad_name_are_told_apart(measured, mine):
    """A module that isn't there, and a name without a colon."""
    mine("")
    with pytest.raises(ValueError, match="there is no module 'yours' here"):
        run_blind("yours:find", measured)
    with pytest.raises(ValueError, match=r"'mine\.find' must be written module:function"):
        run_blind("mine.find", measured)


def test_too_long_is_stopped_with_all_it_started(measured, mine):
    """After the time limit neither the function nor its own child is alive."""
    folder = mine(
        """
        import pathlib, subprocess, sys, time
        def find(images, settings):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            pathlib.Path(__file__).with_name("pid").write_text(str(child.pid))
            time.sleep(60)
        """
    )
    with pytest.raises(ValueError, match="mine:find took longer than 4 s and was stopped"):
        run_blind("mine:find", measured, timeout_s=4)
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", (folder / "pid").read_text()], capture_output=True, text=True
    ).stdout.strip()
    assert state == "" or state.startswith("Z")
