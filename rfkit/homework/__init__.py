"""The homework: checks that students see, and a trainer for their networks; of the teacher, all the rest."""
