"""Who may ask the service: the tokens that it knows. Which requests need one is decided in `bentos/guard.py`."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from hindcast.errors import HindcastError

_SHORTEST = 16


def known_tokens(environment: Mapping[str, str]) -> tuple[bytes, ...]:
    """SHA-256 digests of the tokens that `HINDCAST_TOKENS` holds, or the file that `HINDCAST_TOKENS_FILE` names.

    Args:
        environment: Where these variables are; several tokens stand apart by blanks or line ends.

    Returns:
        One per token; none where neither variable is set.

    Raises:
        HindcastError: The file can't be read or holds none, or a token is so short that it could be guessed.
    """
    source, text = "HINDCAST_TOKENS", environment.get("HINDCAST_TOKENS", "")
    if file := environment.get("HINDCAST_TOKENS_FILE"):
        source = file
        try:
            text = Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise HindcastError(f"The tokens in {file} can't be read: {error}.") from error
        if not text.split():
            raise HindcastError(f"{file} holds no token; write one per line, or unset HINDCAST_TOKENS_FILE.")
    tokens = text.split()
    if any(len(token) < _SHORTEST for token in tokens):
        raise HindcastError(f"{source} holds a token of fewer than {_SHORTEST} characters; take a longer one.")
    return tuple(hashlib.sha256(token.encode()).digest() for token in tokens)


def admits(tokens: tuple[bytes, ...], authorization: bytes) -> bool:
    """Whether a request's `authorization` bears one of the tokens; how nearly it does makes no difference in time."""
    scheme, _, token = authorization.partition(b" ")
    digest = hashlib.sha256(token.strip()).digest()
    known = [hmac.compare_digest(digest, each) for each in tokens]  # all of them, always
    return scheme.lower() == b"bearer" and any(known)
