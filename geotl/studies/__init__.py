"""Many fits of one recipe: learning curve, diagnosis, study of techniques."""
