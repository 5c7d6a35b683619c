"""FewShotClassifier on texts and images: accuracy, probabilities, what to label next."""
