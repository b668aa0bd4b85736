"""What ``check`` warns of: a module for each subject, a generator of warnings in each."""
