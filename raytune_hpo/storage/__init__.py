"""Storage: the files of a run. run_directory: its layout, lock and description; checkpoints, lane_files: written whole
or not at all; commands: what a person wants of a running trial; full_disk: a disk that takes no more.

What this folder may not do: delete what the run itself did not name.
"""
