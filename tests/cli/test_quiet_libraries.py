"""Libraries are silent on the command line, and only there."""

import subprocess
import sys

NOISY = """
import warnings, logging
warnings.warn("a library's opinion", FutureWarning)
logging.getLogger("transformers").warning("advice")
import os
print(os.environ["TRANSFORMERS_VERBOSITY"])
"""


def python(program: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_warnings_and_advice_are_silenced() -> None:
    result = python("from rope_deploy.cli.quiet_libraries import quiet_libraries\nquiet_libraries()" + NOISY)
    assert result.stderr == ""
    assert result.stdout == "error\n"


def test_the_same_program_is_noisy_without_it() -> None:
    result = python("import os\nos.environ['TRANSFORMERS_VERBOSITY'] = 'warning'" + NOISY)
    assert "a library's opinion" in result.stderr
    assert "advice" in result.stderr


def test_what_the_user_asked_for_wins() -> None:
    start = "import os\nos.environ['TRANSFORMERS_VERBOSITY'] = 'info'\n"
    start += "from rope_deploy.cli.quiet_libraries import quiet_libraries\n"
    result = python(start + "quiet_libraries()" + NOISY, "-W", "default")
    assert "a library's opinion" in result.stderr
    assert result.stdout == "info\n"


def test_importing_the_package_changes_no_setting() -> None:
    program = "import os, warnings; a = (dict(os.environ), list(warnings.filters)); import rope_deploy.cli.main"
    assert python(program + "; print(a == (dict(os.environ), list(warnings.filters)))").stdout == "True\n"
