"""The ground: contracts, the loop, the model behind it, the language."""
