"""What is around the agent in a car, over real interfaces: adapter, car, camera controller."""
