"""The completion of a shell, asked as a shell asks."""

import shutil
import subprocess

import pytest

from ddim.cli.main import VERBS


@pytest.fixture(scope="module")
def script() -> str:
    from ddim.cli.commands.completion import script

    return script("bash")


def completed(script: str, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    line = f"COMP_WORDS=({' '.join(words)} ''); COMP_CWORD={len(words)}" if words[-1] else ""
    line = line or f"COMP_WORDS=({' '.join(words[:-1])} ''); COMP_CWORD={len(words) - 1}"
    ask = f"{script}\n{line}\n_tyro_ddim\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_verbs_are_completed(script: str):
    assert set(VERBS) <= completed(script, "ddim")


def test_options_and_their_choices_are_completed(script: str):
    assert {"--steps", "--eta", "--solver", "--seed"} <= completed(script, "ddim", "sample")
    assert {"auto", "fp32", "bf16"} <= completed(script, "ddim", "sample", "--precision")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str, ddim_cli):
    result = ddim_cli("completion", shell)
    assert result.returncode == 0
    assert "ddim" in result.stdout
    assert "--guidance" in result.stdout


def test_another_shell_is_refused(ddim_cli):
    result = ddim_cli("completion", "tcsh")
    assert result.returncode == 2
    assert "bash, fish, zsh" in result.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_completes(tmp_path, ddim_cli):
    (tmp_path / "ddim.fish").write_text(ddim_cli("completion", "fish").stdout, encoding="utf-8")

    def offered(line: str) -> set[str]:
        ask = f"source {tmp_path / 'ddim.fish'}; complete -C '{line}'"
        done = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True)
        return {word.split("\t")[0] for word in done.stdout.splitlines()}

    assert "sample" in offered("ddim sam")
    assert "--solver" in offered("ddim sample --so")
    assert {"unipc", "unipc2", "unipc3"} <= offered("ddim sample --solver uni")
