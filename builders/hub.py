"""A data set repository on the Hugging Face Hub: what is asked of it, retries, errors that say what to do.

What `huggingface_hub` tries again by itself (listing files, sending their content) is not tried again here,
the rest of its calls is. No error holds the token.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetInfo,
    HfApi,
    get_session,
    get_token,
    hf_raise_for_status,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from builders import manifest
from builders.manifest import SpaceRecord
from onnx_bench_dataset.errors import BuildError, UploadError

Answer = TypeVar("Answer")

MADE_BY_THE_HUB = ".gitattributes"

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a call is tried again."""

_LONGEST_WAIT = 300  # seconds that a server may ask for: the Hub counts requests over so many
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_CONFLICT = 412  # somebody has committed in the meantime, perhaps we, if the answer was lost
_KIND = "dataset"
_SHOWN = 600  # characters of what a server says


class CommitUnansweredError(UploadError):
    """A commit may or may not have been made: what is published has to be compared again."""

    def __init__(self, message: str, wait: float) -> None:
        """Say why; `wait` is how many seconds the Hub wants to be left alone."""
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Differences:
    """Paths of files in which a folder and a revision of a repository differ."""

    new: tuple[str, ...]
    """In the folder alone."""
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    """In the repository alone, but for what the Hub itself has put there."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.new or self.changed or self.gone)

    def lines(self) -> Iterator[str]:
        """Describe them, one in a line."""
        for said, paths in (
            ("is not published", self.new),
            ("is published with another content", self.changed),
            ("is published, but not in the folder", self.gone),
        ):
            yield from (f"{path} {said}" for path in paths)


class HubRepository:
    """A data set repository `namespace/name` on the Hub at `endpoint`, by default the usual one.

    The token is that of HF_TOKEN or of the usual login.
    """

    def __init__(self, name: str, endpoint: str | None = None) -> None:
        """Ask nothing yet.

        Raises:
            UploadError: the name or the endpoint cannot be one.
        """
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
            raise UploadError(
                f"{name!r} is not the name of a repository: give NAMESPACE/NAME, of letters, digits and "
                "`-_.`, where NAMESPACE is your user name or an organization of yours"
            )
        self.name = name
        self._token = get_token()
        self._api = HfApi(endpoint=endpoint and endpoint.rstrip("/"), token=self._token)
        self.endpoint = self._api.endpoint
        if not re.match("https?://[^/]", self.endpoint):
            raise UploadError(f"{self.endpoint!r} is not the address of a Hub, which begins with https://")

    @property
    def url(self) -> str:
        """Where people see the repository."""
        return f"{self.endpoint}/datasets/{self.name}"

    def refuse_without_rights(self) -> None:
        """Raise `UploadError` if there is no token, or one that may only read."""
        if self._token is None:
            raise UploadError(
                f"there is no token to publish with: make one with write permission at {self._settings}, "
                "then set HF_TOKEN or run `hf auth login`"
            )
        account = self._ask("whose token it is", self._api.whoami)
        if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
            self._refuse_to_write(None)

    def info(self) -> DatasetInfo | None:
        """Return what is known of the repository and of the head of `main`; None if it is not to be seen."""
        try:
            return self._ask(
                "about the repository", lambda: self._api.dataset_info(self.name), RepositoryNotFoundError
            )
        except RepositoryNotFoundError:
            return None

    def create(self, private: bool) -> None:
        """Make the repository."""
        self._ask(
            "for a new repository",
            lambda: self._api.create_repo(self.name, repo_type=_KIND, private=private or None, exist_ok=True),
        )

    def compare(self, folder: Path, revision: str) -> Differences:
        """Compare the files of a folder with those of a revision, by SHA-256 or Git's digest of the content.

        Raises:
            UploadError: there is no such repository or revision, or it cannot be read.
        """
        try:
            found = self._ask(
                "for its files",
                lambda: self._api.verify_repo_checksums(
                    self.name, repo_type=_KIND, revision=revision, local_dir=folder
                ),
                RevisionNotFoundError,
                waits=(),
            )
        except RevisionNotFoundError as error:
            raise UploadError(f"{self.url} has no revision {revision}") from error
        changed = (mismatch["path"] for mismatch in found.mismatches)
        return Differences(
            new=_without_hubs(found.extra_paths),
            changed=_without_hubs(changed),
            gone=_without_hubs(found.missing_paths),
        )

    def manifest(self, revision: str) -> dict[str, SpaceRecord] | None:
        """Return the manifest of a revision; None if it has none of ours."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._ask(
                    f"for {manifest.FILE}",
                    lambda: self._api.hf_hub_download(
                        self.name, manifest.FILE, repo_type=_KIND, revision=revision, local_dir=folder
                    ),
                    RemoteEntryNotFoundError,
                    waits=(),
                )
                return manifest.read(Path(folder))
            except (RemoteEntryNotFoundError, BuildError):
                return None

    def refuse_card(self, card: str) -> None:
        """Raise `UploadError` if the Hub's validator does not accept a card."""

        def validate() -> None:
            headers = {"Authorization": f"Bearer {self._token}"}
            content = {"content": card, "repoType": _KIND}
            hf_raise_for_status(
                get_session().post(f"{self.endpoint}/api/validate-yaml", json=content, headers=headers)
            )

        self._ask("whether it accepts the card (README.md)", validate)

    def tags(self) -> dict[str, str]:
        """Return the tags, and the commits that they name."""
        refs = self._ask("for its tags", lambda: self._api.list_repo_refs(self.name, repo_type=_KIND))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tag(self, tag: str, revision: str) -> None:
        """Give a revision a tag, unless there is one of that name."""
        self._ask(
            f"for the tag {tag}",
            lambda: self._api.create_tag(
                self.name, tag=tag, revision=revision, repo_type=_KIND, exist_ok=True
            ),
        )

    def commit(
        self, folder: Path, added: Sequence[str], deleted: Sequence[str], title: str, parent: str
    ) -> str:
        """Send files of a folder, commit them to `main` together with deletions, and return the commit.

        Content that the Hub has already, from a run that was interrupted say, is not sent again.

        Raises:
            CommitUnansweredError: the commit failed in a way that may pass, or `parent` is not the head.
            UploadError: anything else.
        """
        additions = [CommitOperationAdd(path, folder / path) for path in added]
        deletions = [CommitOperationDelete(path, is_folder=False) for path in deleted]
        self._ask(
            "to take files",
            lambda: self._api.preupload_lfs_files(self.name, additions, repo_type=_KIND),
            waits=(),
        )
        try:
            made = self._api.create_commit(
                self.name,
                [*deletions, *additions],
                commit_message=title,
                repo_type=_KIND,
                parent_commit=parent,
            )
        except Exception as error:  # those of the Hub's client have no common base
            wait = 0.0 if _status(error) == _CONFLICT else _wait(error, 0.0)
            if wait is None:
                self._refuse("to commit", error)
            raise CommitUnansweredError(self._explained("to commit", error), wait) from error
        return str(made.oid)

    def _ask(
        self,
        what: str,
        call: Callable[[], Answer],
        *expected: type[Exception],
        waits: Sequence[float] = WAITS,
    ) -> Answer:
        """Call the Hub, and again after errors that may pass; `expected` ones are raised as they are.

        Raises:
            UploadError: any other error.
        """
        remaining = iter(waits)
        while True:
            try:
                return call()
            except expected:
                raise
            except Exception as error:  # those of the Hub's client have no common base
                planned = next(remaining, None)
                wait = None if planned is None else _wait(error, planned)
                if wait is None:
                    self._refuse(what, error)
            time.sleep(wait)

    def _refuse(self, what: str, error: Exception) -> NoReturn:
        if _status(error) == 403:
            self._refuse_to_write(error)
        if any(isinstance(cause, RepositoryNotFoundError) for cause in _causes(error)):
            raise UploadError(
                f"there is no data set {self.url}, or it is private and the token may not see it"
            ) from error
        raise UploadError(self._explained(what, error)) from error

    def _refuse_to_write(self, error: Exception | None) -> NoReturn:
        raise UploadError(
            f"the token may not write to {self.name}: make one with write permission to it at "
            f"{self._settings}, and check that the namespace is yours"
        ) from error

    def _explained(self, what: str, error: Exception) -> str:
        status = _status(error)
        if status == 401 and self._token is None:
            return f"{self.endpoint} wants a token: set HF_TOKEN or run `hf auth login`"
        if status == 401:
            return (
                f"{self.endpoint} does not know the token: make another at {self._settings}, then set "
                "HF_TOKEN or run `hf auth login`"
            )
        said = self._without_token(": ".join(dict.fromkeys(filter(None, map(_said, _causes(error))))))
        if status in _PASSING:
            reason = f"answered with status {status} again and again"
        elif any(isinstance(cause, httpx2.TransportError) for cause in _causes(error)):
            reason = "could not be reached, or the connection broke"
        else:
            return f"{self.endpoint} was asked {what}, and refused or answered strangely: {said}"
        return (
            f"{self.endpoint} was asked {what} and {reason} ({said}). Check its address and the network, "
            "wait a while and run the same command again: it goes on where it stopped"
        )

    def _without_token(self, text: str) -> str:
        shown = text.replace(self._token, "<token>") if self._token else text
        return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"

    @property
    def _settings(self) -> str:
        return f"{self.endpoint}/settings/tokens"


def _without_hubs(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if path != MADE_BY_THE_HUB)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _said(error: BaseException) -> str:
    """Return what an error says in one line; nothing where the error that it caused says it, too."""
    return "" if isinstance(error, httpx2.HTTPStatusError) else " ".join(str(error).split())


def _response(error: Exception) -> httpx2.Response | None:
    return next((cause.response for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), None)


def _status(error: Exception) -> int | None:
    response = _response(error)
    return None if response is None else response.status_code


def _wait(error: Exception, planned: float) -> float | None:
    """Return how long to wait before the next try, in seconds; None if another would fail as well."""
    response = _response(error)
    if response is None:
        is_passing = any(isinstance(cause, httpx2.TransportError) for cause in _causes(error))
        return planned if is_passing else None
    if response.status_code not in _PASSING:
        return None
    asked = response.headers.get("Retry-After", "")
    wait = max(planned, float(asked) if asked.isdigit() else 0.0)
    return wait if wait <= _LONGEST_WAIT else None
