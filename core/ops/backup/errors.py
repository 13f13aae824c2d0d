"""What can go wrong with a backup. Each text is for the operator, and says what to do."""


class BackupError(Exception):
    """Nothing was changed, unless the text says so."""


class DamagedError(BackupError):
    """An archive is not what was written. Use another one; never restore this one."""


class WrongPassphraseError(BackupError):
    """The secrets of an archive do not open. Give SUTAZAI_BACKUP_PASSPHRASE as it was when the backup was made."""


class NotEmptyError(BackupError):
    """There is something where a backup is to be restored. Restore into an empty place, or move away what is there."""


class UnableError(BackupError):
    """This machine cannot do it, whatever the archive is like. Do what the text says, and try again."""


class BusyError(UnableError):
    """Somebody else works there. Try again when they are done."""


class ProgramError(BackupError):
    """A program of the system, such as pg_restore, did not do what it was told."""
