"""What a neuron is: properties read from its embedding, how sure that is, and how it is scored."""
