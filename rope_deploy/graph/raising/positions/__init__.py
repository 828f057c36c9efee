"""Where the positions of a graph come from: an input, counting in the graph, or fixed rows."""
