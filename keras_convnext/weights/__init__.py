"""Reading weights from files and putting them into models."""
