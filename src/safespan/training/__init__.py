"""Fine-tuning with TRL's SFTTrainer: data mixture, encoding, training and resuming."""
