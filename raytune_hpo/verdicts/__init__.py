"""Verdicts: is the winner one? A run's configs trained again, compared with their noise in sight.

    confirm, retest         the run's best configs again, now or months later; confirmation, retesting: what they say
    repeating, repetitions  the runs inside the run that train them, and what one repetition is worth
    comparison              intervals of means and differences; naive: what a model that learned nothing scores
    replay                  a trial trained again from the journal alone

What this folder may not do: choose by the test split.
"""
