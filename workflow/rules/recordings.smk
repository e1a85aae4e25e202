"""What is computed of each recording by itself."""


# A recording that cannot be read is an outcome, not a failure: nuclr exits with 3, and the others go on.
checkpoint embed:
    input:
        source,
    output:
        outcome=f"{RESULTS}/outcomes/{{session}}.csv",
    params:
        embeddings=f"{RESULTS}/embeddings/{{session}}.npz",
        folder=f"{RESULTS}/embeddings",
        options=f"{DEVICE} {READING}",
    log:
        f"{RESULTS}/logs/embed/{{session}}.log",
    threads: config["threads"]
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
        **GPU,
    shell:
        "mkdir -p {params.folder:q} && "
        "{{ OMP_NUM_THREADS={threads} nuclr --log-file {log:q} embed {input:q} -o {params.embeddings:q} "
        "--outcomes {output.outcome:q} {params.options} --overwrite -q > /dev/null || [ $? -eq 3 ]; }}"


rule predict:
    input:
        source=source,
        outcome=f"{RESULTS}/outcomes/{{session}}.csv",
    output:
        f"{RESULTS}/identities/{{session}}.csv",
    params:
        embeddings=f"{RESULTS}/embeddings/{{session}}.npz",
        options=f"{PREDICTION} {READING}",
    log:
        f"{RESULTS}/logs/predict/{{session}}.log",
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
    shell:
        "nuclr --log-file {log:q} predict {input.source:q} --embeddings {params.embeddings:q} {params.options} "
        "-o {output:q} --overwrite -q > /dev/null"


rule report:
    input:
        source=source,
        outcome=f"{RESULTS}/outcomes/{{session}}.csv",
    output:
        f"{RESULTS}/reports/{{session}}.html",
    params:
        embeddings=f"{RESULTS}/embeddings/{{session}}.npz",
        options=f"{PREDICTION} {READING}",
    log:
        f"{RESULTS}/logs/report/{{session}}.log",
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
    shell:
        "nuclr --log-file {log:q} report {input.source:q} --embeddings {params.embeddings:q} {params.options} "
        "-o {output:q} --overwrite -q > /dev/null"


rule table:
    input:
        identities=predicted,
        neurons=matched,
        outcomes=[f"{RESULTS}/outcomes/{session}.csv" for session in SESSIONS],
    output:
        units=f"{RESULTS}/units.csv",
        outcomes=f"{RESULTS}/outcomes.csv",
    params:
        sessions=usable,
        table=SESSIONS,
        folder=RESULTS,
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
    script:
        "../scripts/table.py"
