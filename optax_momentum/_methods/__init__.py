"""The methods: the linear recurrence and every choice of its coefficients."""
