"""Content credentials (C2PA) in recordings: what made them, from which portrait, signed so that a change is noticed.

    identity    the certificate and key that sign: this machine's own, or the user's
    manifest    what a recording says of itself
    c2pa_file   signs and reads files; the one place that touches the C2PA library
    report      `python -m puppet doctor recording.mp4`

Nothing here reaches the network: there is no time stamp from an authority, and neither trust lists nor manifests that
lie elsewhere are fetched.
"""
