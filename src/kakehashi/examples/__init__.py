"""Programs that stand alone: read them, run them, take them along.

algorithm   a complete GPT in 200 lines of the standard library
bridge      its loss curve and PyTorch's, in one picture
"""
