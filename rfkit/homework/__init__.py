"""The homework: checks that students see and a trainer for their networks; the rest is for the teacher."""
