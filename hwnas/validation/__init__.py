"""`hwnas validate`: students on their targets, night after night, against their predictions and their own history."""
