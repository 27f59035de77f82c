"""From a verified release to one that readers see: claim, commit, recovery, index, audit."""
