"""The sources that the project builds itself: nothing of them is downloaded or shipped."""
