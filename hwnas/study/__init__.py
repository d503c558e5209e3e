"""Studies: what distillation, size and teachers are worth, by folds of patients, several seeds and paired statistics."""
