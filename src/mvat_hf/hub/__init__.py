"""Publishing: `push` brings a checkpoint with its card and code to the Hub; `cards` renders cards from records, by
`sections`; `run_cards`: the card of a run that was not measured.
"""
