"""The command that tries parts with each other."""

from command_line import mmexp


def test_pairs_of_parts_train_or_are_refused(tmp_path):
    chosen = (
        "encoder/image=cnn",
        "encoder/text=transformer",
        "encoder/audio=none",
        "encoder/video=none",
        "adapter=full,frozen",
    )
    done = mmexp("matrix", *chosen, "fusion=none,concat", "objective=contrastive,classify", "--jobs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 combinations: 4 trained, 0 mended, 1 refused, 0 fault" in done.stdout
    assert "objective 'classify' needs a fused output" in " ".join(done.stdout.replace("│", " ").split())


def test_a_wrong_choice_is_told(tmp_path):
    done = mmexp("matrix", "fusion=conkat", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "mmexp: 'conkat' is not a choice of fusion. Did you mean 'concat'?\n"
