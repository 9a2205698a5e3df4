"""The momentum methods: one linear recurrence and the choices of its coefficients."""
