"""What a GPU does better in a kernel of ours than in torch's own operators."""
