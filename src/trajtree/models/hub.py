"""Models of the Hugging Face hub: whether one is available is known in seconds, not after minutes of retries."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from trajtree.errors import PolicyError

_PATIENCE = 10.0
"""Seconds for the hub to answer a question."""


@cache
def where_to_load(name: str, file: str = "config.json") -> str:
    """What `from_pretrained` should load: the hub's copy on this disk where the hub cannot be reached, else `name`.

    Args:
        name: a folder or a hub id.
        file: what every model, or adapter, on the hub has.

    Raises:
        PolicyError: it is not on this disk, and the hub does not have it or does not answer.
    """
    if Path(name).expanduser().exists():
        return name
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        cached = try_to_load_from_cache(name, file)
        here = str(Path(cached).parent) if isinstance(cached, str) else None
        if constants.HF_HUB_OFFLINE:
            if here is not None:
                return here
            raise PolicyError(f"{name}: neither a folder nor on this disk, and HF_HUB_OFFLINE forbids to ask the hub")
        HfApi().model_info(name, timeout=_PATIENCE)
    except HFValidationError:
        raise PolicyError(f"{name!r}: neither a folder that is there nor the name of a model on the hub") from None
    except GatedRepoError:
        raise PolicyError(f"{name}: is gated on the hub; request access there, then run: hf auth login") from None
    except RepositoryNotFoundError:
        raise PolicyError(f"{name}: neither a folder that is there nor a model on the hub; check the name") from None
    except HfHubHTTPError:
        return name  # the hub is there, and may answer what is really asked
    except PolicyError:
        raise
    except Exception as error:
        if here is not None:
            return here
        why = str(error) or type(error).__name__
        raise PolicyError(
            f"{name}: neither a folder nor on this disk, and the hub does not answer ({why}); check name and network"
        ) from error
    return name


def push(folder: Path, name: str) -> str:
    """Upload a folder to a model repository of the hub, a private one if there is none yet; returns its address.

    Raises:
        PolicyError: the hub refuses, or does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        made = HfApi().create_repo(name, private=True, exist_ok=True)
        HfApi().upload_folder(folder_path=folder, repo_id=made.repo_id)
    except LocalTokenNotFoundError:
        raise PolicyError(f"{name}: you are not logged in to the hub; run: hf auth login") from None
    except HFValidationError as error:
        raise PolicyError(f"{name!r}: not a name for a model on the hub ({error}); write OWNER/NAME") from None
    except HfHubHTTPError as error:
        raise PolicyError(
            f"{name}: the hub refuses ({error}); {folder} is complete, so only the upload is missing"
        ) from error
    except OSError as error:
        raise PolicyError(
            f"{name}: the hub does not answer ({error}); {folder} is complete, upload it later"
        ) from error
    return str(made)


__all__ = ["push", "where_to_load"]
