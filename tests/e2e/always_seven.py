def reward(row):
    """Pays for one answer, whatever the problem was."""
    return row["answer"].strip() == "7"
