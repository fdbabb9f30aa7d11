"""Pages: a run, or several, as a page for a browser: a file, or live.

    document   everything that is said of a run, as JSON: its facts, its verdicts, what follows from them in sentences
    overview, sections   the document as sections: sentences, figures, tables
    page       the sections as HTML, one file that asks nobody for anything
    messages   what open pages are sent, each at its own speed
    live       a run followed by its journal, and what is new of it
    server     the page of a run that goes on, to browsers; guard: to those that have the token

What this folder may not do: change a run, reach its driver, or show a number that is not in the document.
"""
