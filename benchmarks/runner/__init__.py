"""What a measuring job costs beside a loop that one would write oneself, and what it finds of memory."""
