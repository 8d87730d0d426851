"""Versions of the published data set: which commit of a Hub repository a tag, branch or commit names.

Where the Hub cannot be asked, `datasets` serves whatever version its cache holds, whichever was wanted. So a
revision is made a commit first, one that the Hub does not have is refused, and each commit has its own cache.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_bench_dataset.errors import LoadError, UnknownNameError
from onnx_bench_dataset.folders import MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAIN = "main"


@dataclass(frozen=True, slots=True)
class Version:
    """One commit of a Hub repository; `is_cached` if the Hub could not be asked and only caches are there."""

    repository: str
    commit: str
    is_cached: bool
    token: str | bool | None = field(default=None, repr=False)

    def url(self, file: str) -> str:
        """Return where a file of the repository is, for `fsspec`."""
        return f"hf://datasets/{self.repository}@{self.commit}/{file}"

    def cache(self, folder: str | Path) -> Path:
        """Return where this version alone is cached, below the cache folder of `datasets`."""
        return Path(folder) / "onnx-bench" / self.commit

    def snapshot(self) -> Path | None:
        """Return the folder of this version in the cache of `huggingface_hub`, None if there is none."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, MANIFEST, revision=self.commit, repo_type="dataset")
        return Path(found).parent if isinstance(found, str) else None


def resolve(repository: str, revision: str | None, token: str | bool | None = None) -> Version:
    """Return the version of a Hub repository that `revision` names, the newest one without it.

    The Hub is asked. Only where it cannot be, the version that it last said is taken, if that is known here.

    Raises:
        LoadError: there is no such repository, or the Hub cannot be asked and the version is not known here.
        UnknownNameError: the repository has no such revision; the message lists its tags.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(token=token)
    try:
        commit = api.dataset_info(repository, revision=revision).sha
    except RevisionNotFoundError as error:
        raise UnknownNameError(
            f"{repository} has no revision {revision!r}; {_tags(api, repository)}"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise LoadError(
            f"there is no folder {repository}, and no such data set at the Hub that you may read ({error})"
        ) from error
    except OfflineModeIsEnabled:
        return _known(repository, revision, token, "the Hub is not asked, since HF_HUB_OFFLINE is set")
    except Exception as error:  # those of the Hub's client and of its connections have no common base
        version = _known(repository, revision, token, f"the Hub cannot be asked ({error})")
        warnings.warn(
            f"the Hub cannot be asked ({error}): {repository} is loaded as it was, commit {version.commit}",
            stacklevel=4,
        )
        return version
    _remember(api, repository, revision)
    return Version(repository, commit or "", is_cached=False, token=token)


def _remember(api: HfApi, repository: str, revision: str | None) -> None:
    """Keep the manifest, and with it which commit the revision is, in the cache of `huggingface_hub`."""
    try:
        api.hf_hub_download(repository, MANIFEST, repo_type="dataset", revision=revision)
    except Exception as error:  # those of the Hub's client and of its connections have no common base
        raise LoadError(
            f"the Hub repository {repository} has no {MANIFEST} that can be read, so it is not an onnx-bench "
            f"data set: load it with `datasets.load_dataset` ({error})"
        ) from error


def _known(repository: str, revision: str | None, token: str | bool | None, reason: str) -> Version:
    from huggingface_hub import try_to_load_from_cache

    named = revision or _MAIN
    found = try_to_load_from_cache(repository, MANIFEST, revision=named, repo_type="dataset")
    if not isinstance(found, str):
        raise LoadError(
            f"there is no folder {repository}; {reason}, and revision {named!r} of such a data set "
            "at the Hub has not been loaded here before: connect, or name a folder that holds it"
        )
    return Version(repository, Path(found).parent.name, is_cached=True, token=token)


def _tags(api: HfApi, repository: str) -> str:
    tags = sorted(tag.name for tag in api.list_repo_refs(repository, repo_type="dataset").tags)
    return f"its tags are {', '.join(tags)}" if tags else "it has no tags"
