"""The journal: the truth of a run, an append-only file of typed, chained lines.

A line is one step of the run; its events happened together or, if the line is torn, not at all. Everything else about
a run (what the searcher and the scheduler know, which trial stands where, the tables that people read) is derived by
reading it from the start.

    events    one frozen record for each event and for a step: the vocabulary
    codec     records to JSON and back, derived from their fields' types
    names     the forms of what a run names: trials, checkpoints, files
    order     which event may come next
    chain     a line's number and checksum, and what is wrong with a line that does not fit
    file      the writer, the reader, and the cursor that follows a journal as it grows
    format1   runs of before the chain, read as they are

What this folder may not do: decide anything, or know what a run is made of besides its events.
"""
