"""Long work shows how far it has come, on standard error."""

from quickstudy.cli import progress
from quickstudy.progress import listening, report


def test_learning_shows_how_far_it_has_come(quickstudy, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    words = ["learn", pictures, "-o", tmp_path / "a.qs", "--strategy", "NearestNeighbor"]
    (tmp_path / "net_of_progress.py").write_text(
        "import quickstudy as qs\nfrom torch import nn\n"
        "class Net(nn.Flatten):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.inputs = qs.inputs.ImageInputs(8)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = quickstudy(*words, "--encoder", "net_of_progress.Net")
    assert code == 0, err
    assert "encoding examples: 32 of 96" in err
    assert "learning: 0 of 96" in err
    assert out.startswith("Learned 16 classes")


def test_quick_work_says_nothing(quickstudy, capsys):
    with progress.progress_shown():
        for number in range(3):
            report("reading examples", number, 3)
    assert capsys.readouterr() == ("", "")


def test_nobody_need_listen_and_listeners_end():
    heard = []
    report("a", 1, 2)
    with listening(lambda *said: heard.append(said)):
        report("b", 1, 2)
    report("c", 1, 2)
    assert heard == [("b", 1, 2)]
