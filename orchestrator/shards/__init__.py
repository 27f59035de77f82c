"""Shards: one plan, built by many machines, moved as plain files and merged on one.

plan_file.py  what one machine decided        shard_file.py  what another one built, and from what
write.py      a report -> a signed shard      read.py        a folder -> a shard whose every byte held
drift.py      what may not differ             merge.py       plan and shards -> the report of one run
meeting.py    a folder or a bucket where shards meet
basis.py      what plans and shards say in the same words
"""
