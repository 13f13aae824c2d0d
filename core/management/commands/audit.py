"""manage.py audit verify | export | checkpoint | check-checkpoint | public-key"""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from core import audit
from core.audit import checkpoints, export, retention, verification
from core.formats import age
from core.management.arguments import moment


class Command(BaseCommand):
    help = "Check, export and sign the audit log. Ends with 1 when something is wrong with it."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
        what.add_parser("verify", help="walk along the chain and name the first entry that is wrong")
        lines = what.add_parser("export", help="write the entries as JSON Lines")
        lines.add_argument("--since", type=moment, metavar="MOMENT", help="from this moment on")
        lines.add_argument("--until", type=moment, metavar="MOMENT", help="before this moment")
        sign = what.add_parser("checkpoint", help="sign where the chain stands, to be kept elsewhere")
        sign.add_argument("--output", type=Path, metavar="FILE", help="write it there instead of on standard output")
        check = what.add_parser("check-checkpoint", help="check a checkpoint's signature, and the log against it")
        check.add_argument("file", type=Path)
        check.add_argument("--public-key", type=Path, metavar="FILE", help="whose it should be; default: this log's")
        check.add_argument("--signature-only", action="store_true", help="the log is elsewhere; do not look at ours")
        what.add_parser("public-key", help="write the key that checkpoints are checked with, as PEM")

    def handle(self, *args: Any, **options: Any) -> None:
        work = {
            "verify": self._verify,
            "export": self._export,
            "checkpoint": self._checkpoint,
            "check-checkpoint": self._check_checkpoint,
            "public-key": self._public_key,
        }
        with audit.acting(credential="command"):
            work[options["what"]](options)

    def _verify(self, options: dict[str, Any]) -> None:
        verdict = verification.verify()
        self.stdout.write(f"{verdict.intact} sealed entries are intact.")
        if verdict.beginning and verdict.finding is None:
            self.stdout.write(verdict.told_of_removal)
        if verdict.unsealed:
            oldest = age(verdict.oldest_unsealed_at, timezone.now())
            self.stdout.write(f"{verdict.unsealed} entries are not sealed yet, the oldest for {oldest}.")
        if verdict.finding:
            raise CommandError(verdict.finding.text)

    def _export(self, options: dict[str, Any]) -> None:
        since, until = options["since"], options["until"]
        audit.record("audit-log.exported", detail=f"since {since or 'the beginning'}, until {until or 'now'}")
        for line in export.document(export.between(since, until)):
            self.stdout.write(line, ending="")

    def _checkpoint(self, options: dict[str, Any]) -> None:
        checkpoint = checkpoints.sign()
        if checkpoint is None:
            raise CommandError("No entry is sealed yet, so there is nothing to sign.")
        text = checkpoints.document(checkpoint)
        if options["output"] is None:
            self.stdout.write(text, ending="")
        else:
            options["output"].write_text(text)
            self.stdout.write(f"Signed entry {checkpoint.sequence}: {options['output']}")

    def _check_checkpoint(self, options: dict[str, Any]) -> None:
        try:
            checkpoint = checkpoints.read(options["file"].read_text(), _key(options["public_key"]))
        except (OSError, UnicodeDecodeError, checkpoints.InvalidCheckpointError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The signature is genuine: entry {checkpoint.sequence} at {checkpoint.created_at}.")
        if options["signature_only"]:
            return
        if wrong := checkpoints.compare(checkpoint):
            raise CommandError(wrong)
        if checkpoint.sequence <= retention.removed():
            self.stdout.write("The entries up to there were removed for their age since then, as was signed.")
            return
        self.stdout.write(f"The log agrees with it: all {checkpoint.count} entries up to there are present.")

    def _public_key(self, options: dict[str, Any]) -> None:
        self.stdout.write(checkpoints.public_key_pem(), ending="")


def _key(file: Path | None) -> Ed25519PublicKey | None:
    return checkpoints.read_public_key(file.read_bytes()) if file else None
