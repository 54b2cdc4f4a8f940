"""Between the coordinator and its ranks: the messages, piece sizes, who is to blame for a crash, what tuning measured."""
