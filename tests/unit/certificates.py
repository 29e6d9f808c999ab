"""Certificates for a test, made by openssl."""

import subprocess

import pytest


def certificate(folder, name):
    """A server's certificate of this name and of localhost, which signs itself, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    key, made = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", key, "-out", made, "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},DNS:localhost"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl to make a certificate")
    return made, key
