"""Answers to calls: who may call, which event a call becomes, and how the core's decision is answered."""
