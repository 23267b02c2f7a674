"""Commands of the command line, a file for each subject; `mizoo.cli` puts them together."""
