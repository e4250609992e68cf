"""What a Vault says, or does not say, as our errors: one sentence, and never a value."""

import contextlib
from collections.abc import Iterable, Iterator

from supervisor.errors import CloudCodeError


class VaultError(CloudCodeError):
    """Vault cannot be used now. It is asked again later: most of this passes, or is mended there."""

    retryable = True


@contextlib.contextmanager
def told_of(address: str, what: str) -> Iterator[None]:
    """For calls of hvac: its errors become VaultError E_VAULT_DOWN, _SEALED, _DENIED or _REFUSED.

    `hvac.exceptions.InvalidPath` (there is nothing at this path) is passed on.
    """
    import requests
    from hvac import exceptions

    try:
        yield
    except requests.RequestException as error:
        raise VaultError("E_VAULT_DOWN", f"Vault at {address} cannot be reached: {_why(error)}.", _DOWN) from None
    except exceptions.InvalidPath as error:
        if error.json is not None and not error.errors:
            raise
        raise _refused(address, what, error.errors or ("this is no answer of a Vault",)) from None
    except exceptions.VaultDown as error:
        if "sealed" in str(error.errors or error.text):
            message = f"Vault at {address} is sealed."
            raise VaultError("E_VAULT_SEALED", message, "Unseal it: `vault operator unseal`.") from None
        raise VaultError("E_VAULT_DOWN", f"Vault at {address} is not in service.", _DOWN) from None
    except (exceptions.Forbidden, exceptions.Unauthorized):
        mend = "Give its policy that path (docs/secrets.md lists what is needed)."
        raise VaultError("E_VAULT_DENIED", f"Vault at {address} does not let us {what}.", mend) from None
    except exceptions.InvalidRequest as error:
        raise _refused(address, what, error.errors or ()) from None
    except (exceptions.VaultError, ValueError, KeyError, TypeError) as error:
        message = f"Vault at {address} failed to {what} ({type(error).__name__})."
        raise VaultError("E_VAULT_DOWN", message, _DOWN) from None


def _refused(address: str, what: str, errors: Iterable[object]) -> VaultError:
    said = "; ".join(" ".join(str(text).split()) for text in errors)[:200]
    message = f"Vault at {address} would not {what}: {said or 'it gives no reason'}."
    return VaultError(
        "E_VAULT_REFUSED", message, "See what is configured there, and `secrets.vault` in config.yaml."
    )


_DOWN = "See that it runs, and `secrets.vault` in config.yaml; it is asked again by itself."


def _why(error: Exception) -> str:
    """The kind of failure, without the address and what else stands in the message."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted (`ca_file`)"
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    return "nobody answers there" if isinstance(error, requests.ConnectionError) else type(error).__name__
