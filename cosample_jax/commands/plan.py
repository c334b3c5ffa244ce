"""`cosample plan`: what a run would cost, before anything is spent."""

from cosample_jax import plan


def main(args) -> None:
    plan.print_table(plan.predict(args.config))
