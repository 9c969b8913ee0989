#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/install_packages.sh asks at a terminal, and nowhere else, before it calls apt-get. Nothing is installed: what
the script calls is replaced by programs that write down how they were called."""

import os
import pathlib
import pty
import subprocess
import tempfile
import termios
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/install_packages.sh"


class InstallPackages(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.calls = self.root / "calls"
        self.stand_in("dpkg-query", '[[ ${*: -1} == g++ ]] && printf not-installed || printf installed')
        self.stand_in("apt-get", f'printf "%s\\n" "apt-get $*" >>"{self.calls}"')
        self.stand_in("sudo", f'printf "sudo " >>"{self.calls}"; exec "$@"')
        self.stand_in("id", "echo 1000")
        self.environment = {k: v for k, v in os.environ.items() if k != "CI"}
        self.environment["PATH"] = f"{self.root}:{os.environ['PATH']}"

    def stand_in(self, name, text):
        path = self.root / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def called(self):
        return self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []

    def without_terminal(self, *options, **more):
        return subprocess.run(["bash", SCRIPT, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, env={**self.environment, **more}, start_new_session=True)

    def at_terminal(self, answer, *options, redirect="", **more):
        """The exit status and what the terminal shows: to the script it is a real one, that controls its session.
        The answer is typed before the question comes, as terminals allow."""
        command = f'exec bash "$0" "$@" {redirect}'
        child, terminal = pty.fork()
        if child == 0:
            os.execvpe("bash", ["bash", "-c", command, str(SCRIPT), *options], {**self.environment, **more})
        flags = termios.tcgetattr(terminal)
        flags[3] &= ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSANOW, flags)
        os.write(terminal, answer)
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # what Linux says when the last process has closed its side
            pass
        os.close(terminal)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), shown.decode()

    INSTALLED = ["sudo apt-get update --quiet=2",
                 "sudo apt-get install --quiet=2 --yes --no-install-recommends g++"]

    def test_no_question_without_a_terminal(self):
        run = self.without_terminal("fuzz", "python")
        self.assertEqual((run.returncode, run.stderr, run.stdout), (0, "", "Installing g++\n"))
        self.assertEqual(self.called(), self.INSTALLED)

    def test_no_question_where_input_is_no_terminal(self):
        status, shown = self.at_terminal(b"n\n", "python", redirect="</dev/null")
        self.assertEqual((status, shown.split()), (0, ["Installing", "g++"]))

    def test_root_needs_no_sudo(self):
        self.stand_in("id", "echo 0")
        self.assertEqual(self.without_terminal("python").returncode, 0)
        self.assertEqual(self.called(), [call.replace("sudo ", "") for call in self.INSTALLED])

    def test_yes_installs_what_the_question_named(self):
        for answer in (b"y\n", b"YES\n"):
            with self.subTest(answer=answer):
                self.calls.unlink(missing_ok=True)
                status, shown = self.at_terminal(answer, "python")
                self.assertEqual(status, 0, shown)
                question, rest = shown.split("[y/N]")
                self.assertIn("missing: g++", question)
                self.assertIn("sudo apt-get update", question)
                self.assertIn("apt-get install --quiet=2 --yes --no-install-recommends g++", question)
                self.assertIn("Installing g++", rest)
                self.assertEqual(self.called(), self.INSTALLED)

    def test_anything_else_installs_nothing(self):
        for answer in (b"n\n", b"\n", b"yesterday\n", b"\x04"):  # the last is the end of input
            with self.subTest(answer=answer):
                status, shown = self.at_terminal(answer, "python")
                self.assertEqual(status, 1, shown)
                self.assertIn("nothing is installed; missing are g++", shown)
                self.assertEqual(self.called(), [])

    def test_the_question_is_seen_where_output_is_kept(self):
        status, shown = self.at_terminal(b"n\n", "python", redirect=f'>"{self.root}/log" 2>&1')
        self.assertEqual(status, 1)
        self.assertIn("[y/N]", shown)

    def test_who_has_agreed_is_not_asked(self):
        for options, environment in ((("--yes", "python"), {}), (("python", "--yes"), {}), (("python",), {"CI": "true"})):
            with self.subTest(options=options, environment=environment):
                self.calls.unlink(missing_ok=True)
                status, shown = self.at_terminal(b"n\n", *options, **environment)
                self.assertEqual(status, 0, shown)
                self.assertNotIn("[y/N]", shown)
                self.assertEqual(self.called(), self.INSTALLED)

    def test_nothing_missing_says_nothing(self):
        self.stand_in("dpkg-query", "printf installed")
        self.assertEqual(self.at_terminal(b"n\n", "python"), (0, ""))
        self.assertEqual(self.called(), [])

    def test_unknown_sets_are_named(self):
        run = self.without_terminal("nonesuch")
        self.assertEqual(run.returncode, 2)
        self.assertIn("no set is called 'nonesuch'", run.stderr)


if __name__ == "__main__":
    unittest.main()
