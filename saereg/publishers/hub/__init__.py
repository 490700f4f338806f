"""Publishing to a repository on the Hub, so that readers see the old release or the new one, and nothing between.

Before anything is sent
    target.py       which repository, branch and Hub
    planning.py     the plan: one base commit, what changes, how it gets there
    versions.py     a published version is never overwritten, a tag is never moved
    edits.py        what was edited on the site is not undone unasked
    capabilities.py what this Hub can do, and what is lost where it cannot
    written.py      the release on this machine is still the one that was planned

Asking
    asking.py       a request: its timeout, its retries, and what comes of it when it fails
    client.py       every request that there is
    words.py        what went wrong, in plain words that say what to do
    state.py        what a commit holds, told from its tree

Doing
    publisher.py    the publisher: plans, and does it
    blobs.py        the bytes of files, in batches, before any commit names them
    delivery.py     the three ways in which files get to a branch
    committing.py   one commit, and what to make of a reply that was lost
    staging.py      many files: a pull request in parts, looked at, merged
    journal.py      what a killed run leaves for the next one
    marking.py      marks of withdrawal, in one commit of three documents
"""
