"""What the architectures of `spaces.digits` reach on scikit-learn's digits, and how it was measured."""
