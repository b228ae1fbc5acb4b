"""Whether a judge's server is there."""

import http.client
import urllib.error
import urllib.request

PATIENCE = 8
"""Seconds in which a server has to answer."""


def silence(url: str, patience: float = PATIENCE) -> str | None:
    """Why the server at a URL does not answer; None if it answers, with whatever status."""
    try:
        urllib.request.build_opener().open(f"{url.rstrip('/')}/models", timeout=patience).close()
    except urllib.error.HTTPError:  # an answer all the same
        return None
    except urllib.error.URLError as error:
        return _words(error.reason, patience)
    except TimeoutError as error:
        return _words(error, patience)
    except (http.client.HTTPException, OSError):  # a server that hangs up or says what is no HTTP: it is asked again
        return None
    return None


def _words(reason: object, patience: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {patience:g} s"
    return str(getattr(reason, "strerror", None) or reason)
