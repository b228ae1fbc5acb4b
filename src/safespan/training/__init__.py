"""Fine-tuning: the recipe, the data mixture, and the run through TRL's SFTTrainer."""
